#!lua flags=allow-oom
-- FREEZE: freezes a provider, or thaws it.
-- KEYS[1] record. ARGV: reason, who, why; all empty to thaw.
-- Returns FROZEN, THAWED.

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if ARGV[1] == '' then
  rec.frozen = nil
  return done('THAWED', rec)
end
rec.frozen = { reason = ARGV[1], by = ARGV[2], why = ARGV[3], at = str(now) }
return done('FROZEN', rec)
