#!lua flags=allow-oom
-- REASSERT: tells a store that may have forgotten it that the refresh token of a version is being spent, or may have been.
-- KEYS[1] record. ARGV: channel, name, base grant, base generation, [attempt], fence, lease ms.
-- Returns HELD with the fence; NOTED; MOVED; MISSING.
--
-- A holder has its lease back unless somebody was granted a later one and armed it: then its send is counted as one that
-- nobody has explained. Without an attempt nobody holds anything: the version's token may have been spent, no more.

local grant, generation, attempt = ARGV[3], tonumber(ARGV[4]), opt(ARGV[5])
local fence, lease = tonumber(ARGV[6]), tonumber(ARGV[7])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec or rec.st == 'pending' then return answer('MISSING') end
if rec.grant ~= grant or num(rec.gen) ~= generation or TOMBSTONES[rec.st] then
  touch()
  return answer('MOVED')
end
if not USABLE[rec.st] then
  touch()
  return answer('NOTED')
end
if not attempt then
  if rec.st == 'active' or rec.st == 'leased' then
    rec.st, rec.own, rec.lease = 'uncertain', nil, nil
    rec.it_n, rec.quar = str(math.max(1, num(rec.it_n))), str(now)
    event(rec, 'reasserted', nil, 'noted')
  end
  save(rec)
  touch()
  return answer('NOTED')
end
if rec.st == 'armed' and rec.own == attempt and rec.it_id == attempt then
  rec.lease = str(now + lease)
  save(rec)
  touch()
  return answer('HELD', nil, num(rec.fence))
end
local another = rec.it_id ~= attempt and rec.ra ~= attempt
if another then rec.it_n = str(num(rec.it_n) + 1) end
rec.ra = attempt
if rec.st == 'armed' and num(rec.fence) >= fence then
  if another then event(rec, 'reasserted', attempt, 'noted') end
  save(rec)
  touch()
  return answer('NOTED')
end
rec.fence = str(math.max(num(rec.fence), fence) + 1)
rec.st, rec.own, rec.lease = 'armed', attempt, str(now + lease)
rec.it_id, rec.it_ver, rec.it_at = attempt, version(rec), str(now)
event(rec, 'reasserted', attempt, 'held')
save(rec)
return answer('HELD', nil, num(rec.fence))
