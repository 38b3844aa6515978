#!lua flags=no-writes,allow-oom
-- READ: the record as it is.
-- KEYS[1] record. ARGV: channel, name.
-- Returns NONE or RECORD.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec then return answer('NONE') end
return answer('RECORD', rec)
