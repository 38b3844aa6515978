-- What the steps of a quota share. It is put between a script's first line and the rest of it.
--
-- KEYS[1] is the consent's quota: for each group a field of calls, each its time, a bar and its id. Every script answers an
-- array: a word, two numbers, the server's time in milliseconds, and no fields. {'UNREADABLE', field} answers a quota that
-- cannot be understood; nothing was changed then. The decisions are those of store/quota/steps.rs, the constants included.

local key = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local SCHEMA = '1'
local MOST_GROUPS, CLOCK_TOLERANCE = 64, 5000

local function str(number) return string.format('%.0f', number) end

local function calls_of(text)
  local calls = {}
  for word in (text or ''):gmatch('%S+') do
    local at, id = word:match('^(%d+)|(%x+)$')
    if at and #at <= 15 and #id == 32 then calls[#calls + 1] = { at = tonumber(at), id = id } end
  end
  return calls
end

local function text_of(calls)
  local words = {}
  for i, call in ipairs(calls) do words[i] = str(call.at) .. '|' .. call.id end
  return table.concat(words, ' ')
end

-- The calls by group, or nil and the field that cannot be understood.
local function load()
  local flat, fields, groups = redis.call('HGETALL', key), {}, {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  if #flat > 0 and fields.v ~= SCHEMA then return nil, 'v' end
  if #flat > 0 and not (fields.exp and #fields.exp <= 15 and fields.exp:find('^%d+$')) then return nil, 'exp' end
  for name, text in pairs(fields) do
    if #name == 64 then groups[name] = calls_of(text) end
  end
  return groups
end

local function answer(word, first) return { word, first or 0, 0, now, {} } end
