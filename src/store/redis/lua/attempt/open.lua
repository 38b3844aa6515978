#!lua flags=allow-oom
-- OPEN: writes an attempt down. Its key is a digest of a random state, so one that is there already is this one.
-- KEYS[1] attempt. ARGV: consent id, provider, grant, [scope], [return URL], sealed verifier, life ms.
-- Returns OPENED.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if rec then
  touch()
  return answer('OPENED', rec)
end
rec = {}
move(rec, 'open', ARGV[7], {
  v = SCHEMA, cid = ARGV[1], prov = ARGV[2], grant = ARGV[3], scope = opt(ARGV[4]), ret = opt(ARGV[5]), ver = ARGV[6],
})
return answer('OPENED', rec)
