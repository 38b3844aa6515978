//! Sockets: everything that owns one.
