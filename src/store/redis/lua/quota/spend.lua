#!lua
-- SPEND: counts a call, if there is room for it. Not where memory is full: a count is not worth what a token set needs.
-- KEYS[1] quota. ARGV: group, call, how many may count, window ms, [when one began, ms].
-- Returns COUNTED with how many more there is room for, EXHAUSTED with after how long.

local group, id, most, length = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local offset = ARGV[5] ~= '' and tonumber(ARGV[5]:sub(2)) or nil
local from = offset and now - (now - offset) % length or now + 1 - length

local groups, bad = load()
if not groups then return { 'UNREADABLE', bad } end
local calls, before = {}, false
for _, call in ipairs(groups[group] or {}) do
  before = before or call.id == id
  if from <= call.at and call.at <= now + CLOCK_TOLERANCE then calls[#calls + 1] = call end
end
if before then return answer('COUNTED', math.max(most - #calls, 0)) end
if #calls >= most then
  local times = {}
  for i, call in ipairs(calls) do times[i] = call.at end
  table.sort(times)
  local free = offset and from + length or times[#calls - most + 1] + length
  return answer('EXHAUSTED', math.max(free - now, 1))
end

-- Drops what counts no more, and if there are too many groups all the same, the one that was counted in longest ago.
local drop, kept, own, oldest = {}, 0, false, nil
for name, others in pairs(groups) do
  local last = 0
  for _, call in ipairs(others) do last = math.max(last, call.at) end
  if last + length <= now or last > now + CLOCK_TOLERANCE then
    if name ~= group then drop[#drop + 1] = name end
  else
    kept, own = kept + 1, own or name == group
    if not oldest or last < oldest.at or last == oldest.at and name < oldest.name then
      oldest = { at = last, name = name }
    end
  end
end
if kept >= MOST_GROUPS and not own then drop[#drop + 1] = oldest.name end
calls[#calls + 1] = { at = now, id = id }
redis.call('HSET', key, 'v', SCHEMA, 'exp', str(now + length), group, text_of(calls))
if #drop > 0 then redis.call('HDEL', key, unpack(drop)) end
redis.call('PEXPIRE', key, str(length))
return answer('COUNTED', most - #calls)
