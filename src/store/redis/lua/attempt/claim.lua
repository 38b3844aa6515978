#!lua flags=allow-oom
-- CLAIM: takes an attempt over, once: to exchange its code, or to end it. No code is sent before.
-- KEYS[1] attempt. ARGV: browser's digest, who, [outcome to end it with], life ms.
-- Returns UNKNOWN, FOREIGN; CLAIMED, BUSY, OVER with the attempt.

local browser, by, outcome, life = ARGV[1], ARGV[2], opt(ARGV[3]), ARGV[4]

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec then return answer('UNKNOWN') end
if rec.st == 'open' or rec.brw ~= browser then return answer('FOREIGN') end
if rec.st == 'bound' then
  move(rec, outcome and 'over' or 'exchanging', life, { by = by, out = outcome })
  return answer('CLAIMED', rec)
end
if rec.by == by and (rec.st == 'over') == (outcome ~= nil) then
  touch()
  return answer('CLAIMED', rec)
end
return answer(rec.st == 'over' and 'OVER' or 'BUSY', rec)
