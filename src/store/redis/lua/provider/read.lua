#!lua flags=no-writes,allow-oom
-- PROVIDER READ: how a provider stands. Changes nothing.
-- KEYS[1] record.
-- Returns PROVIDER.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
return told('PROVIDER', rec)
