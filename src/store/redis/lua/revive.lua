#!lua flags=allow-oom
-- REVIVE: takes back a suspension, so that the refresh token that was kept is tried again.
-- KEYS[1] record. ARGV: channel, name, attempt, [expected version]; to revive the grant that was replaced last: [its
-- version], [the new grant], [rt], [rt_fp].
-- Returns NOT_FOUND; REVIVED, MISMATCH, NOT_SUSPENDED, NOTHING, SPENT with the current record.

local attempt, expected = ARGV[3], opt(ARGV[4])
local from, grant, rt, rt_fp = opt(ARGV[5]), opt(ARGV[6]), opt(ARGV[7]), opt(ARGV[8])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec then return answer('NOT_FOUND') end
if rec.rv == attempt then
  touch()
  return answer('REVIVED', rec)
end
if expected and expected ~= version(rec) then return answer('MISMATCH', rec) end
-- Nobody's refresh is overtaken: what it would bring is newer than anything that is kept.
local suspended = rec.st == 'reauthorization_required'
if not suspended and not (rec.st == 'active' and from) then return answer('NOT_SUSPENDED', rec) end
if from then
  if not rec.old_rt or rec.old_ver ~= from then return answer('NOTHING', rec) end
  if is_spent(rec, rt_fp) then return answer('SPENT', rec) end
  rec.old_rt, rec.old_ver = rec.rt, rec.rt and version(rec)
  rec.grant, rec.gen, rec.g_at = grant, '1', str(now)
  settle(rec)
  rec.rt, rec.rt_fp = rt, rt_fp
  -- What was said of the other grant is not known of this one.
  for _, field in ipairs({ 'at', 'at_iat', 'at_exp', 'life', 'scope', 'bank_cid', 'c_exp', 'crt', 'lc', 'lc_back' }) do
    rec[field] = nil
  end
else
  if not rec.rt then return answer('NOTHING', rec) end
  local alt_rt, alt_ver, alt_fp = rec.alt_rt, rec.alt_ver, rec.alt_fp
  settle(rec)
  rec.alt_rt, rec.alt_ver, rec.alt_fp = alt_rt, alt_ver, alt_fp
end
rec.fence = str(num(rec.fence) + 1)
rec.rv = attempt
event(rec, 'revived', attempt, from and 'replaced')
save(rec)
return answer('REVIVED', rec)
