#!lua flags=allow-oom
-- BEAT: a process says that it lives and which incarnations of servers it has told all that it remembers.
-- KEYS[1] roster. ARGV: process, incarnations it told (words), incarnations it asks about (words), whether it knew any
-- before (0|1), alive ms, patience ms, first rest ms.
-- Returns, for each incarnation asked about, 1 if every process that was lately alive has told it, else 0; then the
-- number of processes that are waited for.
--
-- The roster is one hash. A process has a field `p:<name>`, "<when> <incarnations>". An incarnation has a field
-- `i:<name>`, "<first asked about> <not before> <newest beat before it>"; `last` is the newest beat of all.

local roster, process, told = KEYS[1], ARGV[1], ARGV[2]
local knew, alive, patience, rest = ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local FORGET_MS = 86400000

local entries = {}
local flat = redis.call('HGETALL', roster)
for i = 1, #flat, 2 do entries[flat[i]] = flat[i + 1] end
local function put(field, value)
  entries[field] = value
  redis.call('HSET', roster, field, value)
end
local function num(text) return tonumber(text) or 0 end
local last = num(entries.last)

put('p:' .. process, string.format('%.0f %s', now, told))
local answer, waited = {}, 0
for name in ARGV[3]:gmatch('%S+') do
  local field = 'i:' .. name
  if not entries[field] then
    -- A roster that was lost says nothing about who lives: everybody gets the time for a few beats.
    local free = (last == 0 and knew) and now + rest or now
    put(field, string.format('%.0f %.0f %.0f', now, free, last == 0 and now or last))
  end
  local first, free, newest = entries[field]:match('^(%d+) (%d+) (%d+)')
  first, free, newest = num(first), num(free), num(newest)
  local missing = 0
  for other, line in pairs(entries) do
    if other:sub(1, 2) == 'p:' then
      local seen, list = line:match('^(%d+) (.*)$')
      local lives = num(seen) + alive >= newest
      if lives and not ((' ' .. (list or '') .. ' '):find(' ' .. name .. ' ', 1, true)) then missing = missing + 1 end
    end
  end
  local ready = (missing == 0 and now >= free) or now >= first + patience
  answer[#answer + 1] = ready and 1 or 0
  waited = waited + (ready and 0 or missing)
end
for field, line in pairs(entries) do
  if field ~= 'last' and num(line:match('^(%d+)')) + FORGET_MS < now then redis.call('HDEL', roster, field) end
end
put('last', string.format('%.0f', math.max(now, last)))
answer[#answer + 1] = waited
return answer
