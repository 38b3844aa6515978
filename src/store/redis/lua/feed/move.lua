#!lua flags=allow-oom
-- MOVE FEED: moves the position, for who reads, from where it was.
-- KEYS[1] record. ARGV: who, fence, from or '', to, life ms.
-- Returns MOVED, LOST.

local by, fence, from, to, life = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
local holds = rec.own == by and num(rec.fence) == tonumber(fence)
local stands = (rec.pos or '') == from or rec.pos == to
if not holds or not stands then return answer('LOST', rec) end
put(rec, { pos = to, at = str(now), ['until'] = str(now + life) })
return answer('MOVED', rec)
