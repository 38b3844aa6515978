#!lua flags=allow-oom
-- AWAIT: a customer is asked for a grant. A consent of which there is nothing, or only that a customer was asked or said no,
-- is pending from here on, for so long; any other stays as it is.
-- KEYS[1] record. ARGV: channel, name, provider, grant, life ms.
-- Returns PENDING, STANDS, ELSEWHERE with the record.

local provider, grant, life = ARGV[3], ARGV[4], ARGV[5]

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
local waits = not rec or rec.st == 'pending' or rec.st == 'denied'
if not waits then
  if rec.prov ~= provider and not TOMBSTONES[rec.st] then return answer('ELSEWHERE', rec) end
  event(rec, 'asked', grant)
  touch()
  return answer('STANDS', rec)
end
if rec and rec.st == 'pending' and rec.grant == grant then
  touch()
  return answer('PENDING', rec)
end
local fence, spent = rec and rec.fence, rec and rec.spent
rec = empty(provider, grant)
rec.fence, rec.spent = fence, spent
rec.st, rec.p_exp = 'pending', str(now + tonumber(life))
event(rec, 'asked', grant)
save(rec)
redis.call('PEXPIRE', key, life)
redis.pcall('PEXPIRE', history, life)
return answer('PENDING', rec)
