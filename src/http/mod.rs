//! Pure rules over headers, targets and media types. No I/O.
