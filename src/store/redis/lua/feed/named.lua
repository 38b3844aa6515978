#!lua flags=no-writes,allow-oom
-- NAMED: the consents that were noted under a name.
-- KEYS[1] record of the name.
-- Returns NAMES with the record.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
return answer('NAMES', rec)
