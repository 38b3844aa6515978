#!lua flags=allow-oom
-- COMMIT: replaces the token set of the version that was spent, whether or not the lease still holds. It carries the
-- newest refresh token on earth, so it is accepted even when the server is out of memory.
-- KEYS[1] record. ARGV: channel, name, attempt, base grant, base generation, at, [rt], [rt_fp], [spent], remaining ms,
-- life ms, [scope], [certificate], forced 0|1, what is known of the request, [ms since the intent was written].
--
-- A commit that was held up on its way must not lengthen a life: counted from the intent no more is left of it than when
-- it set out.
-- Returns STORED with the new generation and rolled back 0|1; SUPERSEDED with the current record; GONE; MISSING.

local attempt, grant, base = ARGV[3], ARGV[4], tonumber(ARGV[5])
local at, rt, rt_fp, spent = ARGV[6], opt(ARGV[7]), opt(ARGV[8]), opt(ARGV[9])
local left, life, scope, certificate, forced = ARGV[10], ARGV[11], opt(ARGV[12]), opt(ARGV[13]), ARGV[14] == '1'
local said, since = ARGV[15], opt(ARGV[16])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec or rec.st == 'pending' then return answer('MISSING') end
-- What turns a commit down has to be as durable as a commit: the token set is let go of because of it.
if TOMBSTONES[rec.st] then
  event(rec, 'superseded', attempt, 'ended', said)
  touch()
  return answer('GONE')
end
if rec.grant ~= grant then
  event(rec, 'superseded', attempt, 'other_grant', said)
  touch()
  return answer('SUPERSEDED', rec)
end
local current, following = num(rec.gen), base + 1
if current == following and rec.lc == attempt then
  touch()
  return answer('STORED', nil, following, rec.lc_back and 1 or 0)
end
if current > base then
  if current == following and rt and rt_fp ~= rec.rt_fp then
    rec.alt_rt, rec.alt_ver, rec.alt_fp = rt, grant .. '.' .. str(following), rt_fp
    save(rec)
  end
  event(rec, 'superseded', attempt, rt and rec.alt_rt == rt and 'kept_as_alt' or 'older', said)
  touch()
  return answer('SUPERSEDED', rec)
end

local rolled_back = current < base
local late = not (rec.st == 'armed' and rec.own == attempt and num(rec.lease) > now)
local intended_at = rec.it_ver and rec.it_id == attempt and num(rec.it_at)
rec.gen = str(following)
settle(rec)
put_tokens(rec, at, rt, rt_fp, left, life)
if intended_at and since then
  rec.at_exp = str(math.max(now, math.min(num(rec.at_exp), intended_at + tonumber(since) + tonumber(left))))
end
remember_spent(rec, spent)
if scope then rec.scope = scope end
rec.crt = certificate
rec.lc = attempt
rec.lc_back = rolled_back and '1' or nil
rec.forced_at = forced and str(now) or nil
event(rec, 'committed', attempt, rolled_back and 'rolled_back' or late and 'late', said)
save(rec)
return answer('STORED', nil, following, rolled_back and 1 or 0)
