#!lua flags=no-writes,allow-oom
-- ATTEMPT READ: the attempt as it is.
-- KEYS[1] attempt.
-- Returns NONE or ATTEMPT.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec then return answer('NONE') end
return answer('ATTEMPT', rec)
