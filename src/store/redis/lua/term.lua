#!lua flags=allow-oom
-- TERM: notes when the consent itself ends, as its bank says.
-- KEYS[1] record. ARGV: channel, name, grant, date ms.
-- Returns NOTED, NOT_FOUND.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec or rec.grant ~= ARGV[3] or TOMBSTONES[rec.st] or rec.st == 'pending' then return answer('NOT_FOUND') end
rec.c_exp = ARGV[4]
save(rec)
return answer('NOTED')
