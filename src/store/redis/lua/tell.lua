#!lua flags=allow-oom
-- TELL: an attempt ended without a grant, or the bank did not revoke a consent. Only the history learns of it.
-- KEYS[1] record. ARGV: channel, name, why, what is known of the request, [attempt], kind.
-- Returns TOLD, NOT_FOUND.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec then return answer('NOT_FOUND') end
event(rec, ARGV[6], opt(ARGV[5]), ARGV[3], ARGV[4])
return answer('TOLD')
