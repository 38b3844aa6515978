#!lua flags=allow-oom
-- RESTORE: puts back a record of which the store remembers less: an earlier generation of the same grant, an earlier grant,
-- or nothing.
-- KEYS[1] record. ARGV: channel, name, attempt, provider, grant, generation, at, [rt], [rt_fp], remaining ms, life ms,
-- [scope], [bank's consent id], [consent end], [certificate], [when it was granted].
-- Returns RESTORED, GONE; NOT_NEEDED with the current record.

local attempt, provider, grant, generation = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local at, rt, rt_fp, left, life = ARGV[7], opt(ARGV[8]), opt(ARGV[9]), ARGV[10], ARGV[11]
local granted_at = opt(ARGV[16])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
-- That a customer is asked says nothing about what was granted before.
local waits = rec and rec.st == 'pending'
local why = rec and not waits and 'behind' or 'forgotten'
if rec and not waits then
  local same = rec.grant == grant
  local later_than = function(time) return not same and num(granted_at) > num(time) end
  if TOMBSTONES[rec.st] and not later_than(rec.ended_at) then
    touch()
    return answer('GONE')
  end
  if same and num(rec.gen) == generation and rec.lc == attempt then
    touch()
    return answer('RESTORED')
  end
  if not later_than(rec.g_at) and (not same or num(rec.gen) >= generation) then
    touch()
    return answer('NOT_NEEDED', rec)
  end
elseif not rec then
  rec = empty(provider, grant)
end
rec.prov, rec.grant, rec.gen, rec.g_at = provider, grant, str(generation), granted_at
rec.fence = str(num(rec.fence) + 1)
settle(rec)
put_tokens(rec, at, rt, rt_fp, left, life)
rec.scope, rec.bank_cid, rec.c_exp, rec.crt = opt(ARGV[12]), opt(ARGV[13]), opt(ARGV[14]), opt(ARGV[15])
rec.lc, rec.lc_back, rec.ended_at = attempt, nil, nil
if stored.ended_at or stored.p_exp then
  redis.call('PERSIST', key)
  redis.pcall('PERSIST', history)
end
event(rec, 'restored', attempt, why)
save(rec)
return answer('RESTORED')
