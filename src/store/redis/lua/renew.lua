#!lua flags=allow-oom
-- RENEW: prolongs a lease. A sender whose lease ran out and was not passed on has it back.
-- KEYS[1] record. ARGV: channel, name, attempt, fence, lease ms.
-- Returns RENEWED, LOST.

local attempt, fence, lease = ARGV[3], ARGV[4], tonumber(ARGV[5])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec or not holds(rec, attempt, fence) then return answer('LOST') end
if rec.st == 'uncertain' and rec.it_ver and rec.it_id == attempt then
  rec.st = 'armed'
  event(rec, 'resumed', attempt)
end
rec.lease = str(now + lease)
save(rec)
return answer('RENEWED')
