#!lua flags=allow-oom
-- NAME: what a consent is called here that a bank calls by another name.
-- KEYS[1] record of the name. ARGV: consent, life ms.
-- Returns NAMED.

local consent, life = ARGV[1], ARGV[2]

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
local ids = {}
for id in (rec.cids or ''):gmatch('%S+') do
  if id ~= consent then ids[#ids + 1] = id end
end
ids[#ids + 1] = consent
put(rec, {
  cids = table.concat(ids, ' ', math.max(1, #ids - MOST_NAMED + 1)), exp = str(now + tonumber(life)),
})
redis.call('PEXPIRE', key, life)
return answer('NAMED', rec)
