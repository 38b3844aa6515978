#!lua flags=allow-oom
-- FREEZE: freezes a provider, or thaws whatever was frozen. An order takes the place of a freeze with its reason, and of
-- no other.
-- KEYS[1] record. ARGV: reason, who, why, what it is over if that freezes a provider only once; all empty to thaw.
-- Returns FROZEN, THAWED; FROZEN also where a second order over the same changed nothing.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if ARGV[1] == '' then
  rec.frozen = {}
  return done('THAWED', rec)
end
if ARGV[4] ~= '' then
  if rec.over == ARGV[4] then return done('FROZEN', rec) end
  rec.over = ARGV[4]
end
rec.frozen[ARGV[1]] = { by = ARGV[2], why = ARGV[3], at = str(now) }
return done('FROZEN', rec)
