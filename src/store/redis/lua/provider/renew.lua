#!lua flags=allow-oom
-- PERMIT RENEW: prolongs a permit while the bank thinks. One that the store has forgotten is remembered again.
-- KEYS[1] record. ARGV: permit, life ms.
-- Returns RENEWED.

local id, till = ARGV[1], now + tonumber(ARGV[2])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
forget_the_past(rec)
if rec.canary and rec.canary.id == id then rec.canary.till = till end
local at = find(rec.permits, function(permit) return permit.id == id end)
if at then
  rec.permits[at].till = till
else
  rec.permits[#rec.permits + 1] = { id = id, at = now, till = till }
end
return done('RENEWED', rec)
