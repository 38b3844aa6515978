#!lua flags=allow-oom
-- END: wipes the tokens and puts up a tombstone for a week. The generation grows, so that whoever remembers the last one
-- hears of something newer.
-- KEYS[1] record. ARGV: channel, name, [grant], state, why, [provider], [version].
-- With provider and version the tombstone is put up even where there is no record: somebody remembers it.
-- Returns ENDED, NOT_FOUND.

local grant, state, why, provider, remembered = opt(ARGV[3]), ARGV[4], ARGV[5], opt(ARGV[6]), opt(ARGV[7])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec and remembered then
  local of, generation = remembered:match('^(%x+)%.(%d+)$')
  rec = empty(provider, of)
  rec.gen = generation
end
if not rec or (grant and rec.grant ~= grant) then return answer('NOT_FOUND') end
if TOMBSTONES[rec.st] then
  touch()
  return answer('ENDED')
end
remember_unexplained(rec)
settle(rec)
rec.gen = str(num(rec.gen) + 1)
rec.fence = str(num(rec.fence) + 1)
rec.st, rec.why = state, why
for _, field in ipairs({ 'at', 'rt', 'rt_fp', 'old_rt', 'old_ver', 'at_iat', 'at_exp', 'life', 'lc', 'lc_back' }) do
  rec[field] = nil
end
rec.ended_at = str(now)
save(rec)
redis.call('PEXPIRE', key, TOMBSTONE_MS)
event(rec, 'ended', nil, why)
redis.pcall('PEXPIRE', history, TOMBSTONE_MS)
return answer('ENDED')
