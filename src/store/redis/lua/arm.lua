#!lua flags=allow-oom
-- ARM: writes down that a refresh token is being spent. Nothing may be sent before.
-- KEYS[1] record. ARGV: channel, name, attempt, fence, base grant, base generation, lease ms, probe 0|1.
-- Returns ARMED, LOST, PROBE_NEEDED.

local attempt, fence, grant, generation = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local lease, probe = tonumber(ARGV[7]), ARGV[8] == '1'

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec or not holds(rec, attempt, fence) then return answer('LOST') end
if rec.grant ~= grant or num(rec.gen) ~= tonumber(generation) or num(rec.lease) <= now then return answer('LOST') end

local again = rec.it_ver and rec.it_id == attempt
if again and rec.st ~= 'armed' then return answer('LOST') end
if rec.st == 'uncertain' and not probe then return answer('PROBE_NEEDED') end
if again then
  touch()
else
  rec.it_id, rec.it_ver, rec.it_at = attempt, version(rec), str(now)
  rec.it_n = str(num(rec.it_n) + 1)
  event(rec, 'armed', attempt, rec.st == 'uncertain' and 'probe')
end
rec.st = 'armed'
rec.lease = str(now + lease)
save(rec)
return answer('ARMED')
