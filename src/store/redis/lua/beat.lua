#!lua flags=allow-oom
-- BEAT: a process says that it lives and which incarnations of servers it has told all that it remembers.
-- KEYS[1] roster. ARGV: process, incarnations it told (words), incarnations it asks about (words), whether it knew any
-- before (0|1), alive ms, patience ms, first rest ms, steps that it has taken since its last beat, steps that it knows of
-- at least, whether it only looks (0|1).
-- Returns, for each incarnation asked about: 1 if every process that was lately alive has told it, else 0; the count of
-- steps (-1: the roster was empty) and the newest beat from before it was first asked about. Then the number of
-- processes that are waited for, and count and newest beat before this beat (-1 and 0: the roster was empty) and after it.
--
-- The roster is one hash. A process has a field `p:<name>`, "<when> <incarnations>". An incarnation has a field
-- `i:<name>`, "<first asked about> <not before> <newest beat before it> <count of steps before it, or - >"; `last` is the
-- newest beat of all, `steps` the count. A look notes incarnations that it asks about first, and nothing else: what a
-- store was like when it came back has to stand there before anybody changes that.

local roster, process, told = KEYS[1], ARGV[1], ARGV[2]
local knew, alive, patience, rest = ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local taken, known, looks = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1'
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
local last, steps = num(entries.last), num(entries.steps)
local came = last == 0 and '-' or string.format('%.0f', steps)

if not looks then put('p:' .. process, string.format('%.0f %s', now, told)) end
local answer, waited = {}, 0
for name in ARGV[3]:gmatch('%S+') do
  local field = 'i:' .. name
  if not entries[field] then
    -- A roster that was lost says nothing about who lives: everybody gets the time for a few beats.
    local free = (last == 0 and knew) and now + rest or now
    put(field, string.format('%.0f %.0f %.0f %s', now, free, last == 0 and now or last, came))
  end
  local first, free, newest, count = entries[field]:match('^(%d+) (%d+) (%d+) ?(%S*)')
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
  answer[#answer + 1] = tonumber(count) or -1
  answer[#answer + 1] = newest
  waited = waited + (ready and 0 or missing)
end
answer[#answer + 1] = waited
answer[#answer + 1] = last == 0 and -1 or steps
answer[#answer + 1] = last
if not looks then
  for field, line in pairs(entries) do
    local stays = field == 'last' or field == 'steps'
    if not stays and num(line:match('^(%d+)')) + FORGET_MS < now then redis.call('HDEL', roster, field) end
  end
  last, steps = math.max(now, last), math.max(steps + taken, known)
  put('last', string.format('%.0f', last))
  put('steps', string.format('%.0f', steps))
end
answer[#answer + 1] = steps
answer[#answer + 1] = last
return answer
