#!lua flags=allow-oom
-- FREEZE: freezes a provider, or thaws whatever was frozen. An order takes the place of a freeze with its reason, and of
-- no other.
-- KEYS[1] record. ARGV: reason, who, why; all empty to thaw.
-- Returns FROZEN, THAWED.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if ARGV[1] == '' then
  rec.frozen = {}
  return done('THAWED', rec)
end
rec.frozen[ARGV[1]] = { by = ARGV[2], why = ARGV[3], at = str(now) }
return done('FROZEN', rec)
