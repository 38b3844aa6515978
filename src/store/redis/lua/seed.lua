#!lua flags=allow-oom
-- SEED: stores the first token set of a new grant.
-- KEYS[1] record. ARGV: channel, name, provider, grant, [expected version], at, [rt], [rt_fp], remaining ms, life ms,
-- [scope], [bank's consent id], [consent end], [certificate], [ms since the bank gave it].
--
-- With that age it is what a customer has just consented to: it takes the place of whatever was granted before that, and
-- nothing is expected of the record.
-- Returns MISSING; CREATED, REPLACED, EXISTS, MISMATCH, SPENT with the current record.

local provider, grant, expected = ARGV[3], ARGV[4], opt(ARGV[5])
local at, rt, rt_fp, left, life = ARGV[6], opt(ARGV[7]), opt(ARGV[8]), ARGV[9], ARGV[10]

local age = opt(ARGV[15])
local since = age and now - tonumber(age)

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
local word = 'CREATED'
if not rec then
  if expected then return answer('MISSING') end
  rec = empty(provider, grant)
else
  local ended, waits = TOMBSTONES[rec.st], rec.st == 'pending'
  -- A repeat of a seed that landed; if the consent has ended since, it stays ended.
  if rec.grant == grant and ended then return answer('MISMATCH', rec) end
  if rec.grant == grant and not waits then
    touch()
    return answer(expected and 'REPLACED' or 'CREATED', rec)
  end
  if since then
    -- What was ended or granted later counts. That a customer said no to another attempt takes nothing away.
    if ended and rec.st ~= 'denied' and num(rec.ended_at) > since then return answer('MISMATCH', rec) end
    if not ended and num(rec.g_at) > since then return answer('EXISTS', rec) end
    if not ended and not waits then word = 'REPLACED' end
  else
    if not expected and not ended and not waits then return answer('EXISTS', rec) end
    if expected and expected ~= version(rec) then return answer('MISMATCH', rec) end
    if expected then word = 'REPLACED' end
    if rt_fp and is_spent(rec, rt_fp) then return answer('SPENT', rec) end
  end
end
remember_unexplained(rec)
if rec.rt then rec.old_rt, rec.old_ver = rec.rt, version(rec) end
rec.prov, rec.grant, rec.gen, rec.g_at = provider, grant, '1', str(now)
rec.fence = str(num(rec.fence) + 1)
settle(rec)
put_tokens(rec, at, rt, rt_fp, left, life)
rec.scope, rec.bank_cid, rec.c_exp, rec.crt = opt(ARGV[11]), opt(ARGV[12]), opt(ARGV[13]), opt(ARGV[14])
rec.lc, rec.lc_back, rec.ended_at = nil, nil, nil
if stored.ended_at or stored.p_exp then
  redis.call('PERSIST', key)
  redis.pcall('PERSIST', history)
end
event(rec, word == 'CREATED' and 'seeded' or 'replaced')
save(rec)
return answer(word, rec)
