#!lua flags=allow-oom
-- BIND: ties an attempt to the first browser that comes with its ticket.
-- KEYS[1] attempt. ARGV: browser's digest, life ms.
-- Returns UNKNOWN, FOREIGN; BOUND, USED with the attempt.

local browser, life = ARGV[1], ARGV[2]

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec then return answer('UNKNOWN') end
if rec.st == 'open' then
  move(rec, 'bound', life, { brw = browser })
  return answer('BOUND', rec)
end
if rec.brw ~= browser then return answer('FOREIGN') end
if rec.st ~= 'bound' then return answer('USED', rec) end
touch()
return answer('BOUND', rec)
