#!lua flags=allow-oom
-- SETTLE: writes down how an exchange ended.
-- KEYS[1] attempt. ARGV: who, outcome, life ms.
-- Returns SETTLED, LOST.

local by, outcome, life = ARGV[1], ARGV[2], ARGV[3]

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec or rec.by ~= by then return answer('LOST') end
if rec.st == 'exchanging' then
  move(rec, 'over', life, { out = outcome })
  return answer('SETTLED')
end
if rec.st == 'over' and rec.out == outcome then
  touch()
  return answer('SETTLED')
end
return answer('LOST')
