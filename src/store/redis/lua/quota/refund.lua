#!lua flags=allow-oom
-- REFUND: takes a call back that did not reach the bank.
-- KEYS[1] quota. ARGV: group, call.
-- Returns REFUNDED.

local group, id = ARGV[1], ARGV[2]

local groups, bad = load()
if not groups then return { 'UNREADABLE', bad } end
local calls, found = {}, false
for _, call in ipairs(groups[group] or {}) do
  if call.id == id then found = true else calls[#calls + 1] = call end
end
if found and #calls == 0 then redis.call('HDEL', key, group) end
if found and #calls > 0 then redis.call('HSET', key, group, text_of(calls)) end
return answer('REFUNDED')
