-- What the steps on a feed's record share. It is put between a script's first line and the rest of it.
--
-- KEYS[1] is the record. Every script answers an array: a word, two numbers, the server's time in milliseconds, and the
-- record's fields and values after the step. {'UNREADABLE', field} answers a record that cannot be understood; nothing was
-- changed then. The decisions are those of store/feed/steps.rs, the checks those of store/feed/record.rs.

local key = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local SCHEMA = '1'
local LONGEST = 86400000
local MOST_NAMED = 8

local function str(number) return string.format('%.0f', number) end
local function num(text) return tonumber(text or '0') end

-- The record as a table of fields, which may be empty; or nil and the field that cannot be understood.
local function load()
  local flat = redis.call('HGETALL', key)
  local rec = {}
  for i = 1, #flat, 2 do rec[flat[i]] = flat[i + 1] end
  if #flat == 0 then return rec end
  if rec.v ~= SCHEMA then return nil, 'v' end
  for _, field in ipairs({ 'fence', 'until', 'pos', 'at', 'exp' }) do
    local text = rec[field]
    if text and not (#text <= 15 and text:find('^%d+$')) then return nil, field end
  end
  return rec
end

local function put(rec, fields)
  fields.v = SCHEMA
  local set = {}
  for field, value in pairs(fields) do
    rec[field] = value
    set[#set + 1] = field
    set[#set + 1] = value
  end
  redis.call('HSET', key, unpack(set))
end

local function answer(word, rec, first)
  local fields = {}
  for field, value in pairs(rec) do
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  return { word, first or 0, 0, now, fields }
end
