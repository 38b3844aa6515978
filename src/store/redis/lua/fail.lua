#!lua flags=allow-oom
-- FAIL: ends a lease without a new token set.
-- KEYS[1] record. ARGV: channel, name, attempt, fence, base grant, base generation, to released|active|
-- uncertain|reauthorization_required|alternate, backoff ms, why.
-- Returns RECORDED, LOST.
--
-- it_n counts the intents that nobody has explained. A report that the token was not spent takes the reporter's own
-- away; while any is left the record stays uncertain, so that a failed probe does not hide an earlier send.
--
-- alternate: the bank refused the refresh token, and one that came second is at hand. It takes its place.

local attempt, fence, grant, generation = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local to, backoff, why = ARGV[7], tonumber(ARGV[8]), ARGV[9]

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec then return answer('LOST') end
local lease = fence .. ' ' .. attempt
if not holds(rec, attempt, fence) or rec.grant ~= grant or num(rec.gen) ~= tonumber(generation) then
  return answer(rec.lf == lease and 'RECORDED' or 'LOST')
end

local alternate = to == 'alternate' and rec.alt_rt and rec.alt_ver == version(rec)
if to == 'alternate' and not alternate then to = 'reauthorization_required' end

local function explain()
  rec.it_id, rec.it_ver, rec.it_at = nil, nil, nil
end

if to == 'released' or to == 'active' then
  if rec.it_ver and rec.it_id == attempt then
    explain()
    rec.it_n = str(math.max(0, num(rec.it_n) - 1))
  end
  if to == 'active' then rec.next = str(now + backoff) end
  if num(rec.it_n) == 0 then
    rec.st, rec.it_n, rec.quar = 'active', nil, nil
  else
    rec.st = 'uncertain'
  end
elseif to == 'uncertain' then
  rec.st = 'uncertain'
  rec.it_n = str(math.max(1, num(rec.it_n)))
  rec.quar = str(now)
else
  explain()
  rec.st, rec.it_n, rec.quar = alternate and 'active' or 'reauthorization_required', nil, nil
end
if alternate then
  remember_spent(rec, rec.rt_fp)
  rec.rt, rec.rt_fp = rec.alt_rt, rec.alt_fp
  rec.alt_rt, rec.alt_ver, rec.alt_fp = nil, nil, nil
end
rec.own, rec.lease = nil, nil
if to ~= 'released' then
  rec.fails = str(num(rec.fails) + 1)
  rec.why = why
end
rec.lf = lease
save(rec)
return answer('RECORDED')
