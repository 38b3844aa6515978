-- What the steps of an attempt share. It is put between a script's first line and the rest of it.
--
-- KEYS[1] is the attempt. An argument that may be absent is empty, or '=' and then its value. Every script answers an array:
-- a word, two numbers, the server's time in milliseconds, and the attempt's fields and values after the step.
-- {'UNREADABLE', field} answers an attempt that cannot be understood; nothing was changed then. The decisions are those of
-- store/attempt/steps.rs, the checks those of AttemptRecord::from_fields.

local key = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local SCHEMA = '1'
local STAGES = { open = true, bound = true, exchanging = true, over = true }

local function is_number(text) return #text <= 15 and text:find('^%d+$') end
local function is_hex(digits) return function(text) return #text == digits and text:find('^%x+$') end end

local CHECKS = {
  { 'st', function(word) return STAGES[word] end },
  { 'cid', function(text) return #text <= 128 and text:find('^[%w._~:-]+$') end },
  { 'prov', function(text) return #text <= 64 and text:find('^%l[%l%d_-]*$') end },
  { 'grant', is_hex(32) },
  { 'ver', function(text) return #text > 0 end },
  { 'at', is_number }, { 'exp', is_number }, { 'life', is_number },
}
local OPTIONAL = {
  { 'scope', function(text) return not text:find('[^ -~]') and not text:find('["\\]') end },
  { 'brw', is_hex(64) },
}

local function str(number) return string.format('%.0f', number) end
local function opt(argument)
  if argument == '' then return nil end
  return argument:sub(2)
end

-- The attempt as a table of fields, or nil; and the field that cannot be understood, if one cannot. One whose time is over
-- is gone by itself.
local function load()
  local flat = redis.call('HGETALL', key)
  if #flat == 0 then return nil end
  local rec = {}
  for i = 1, #flat, 2 do rec[flat[i]] = flat[i + 1] end
  if rec.v ~= SCHEMA then return nil, 'v' end
  for _, check in ipairs(CHECKS) do
    if not rec[check[1]] or not check[2](rec[check[1]]) then return nil, check[1] end
  end
  for _, check in ipairs(OPTIONAL) do
    if rec[check[1]] and not check[2](rec[check[1]]) then return nil, check[1] end
  end
  if rec.st == 'over' and not rec.out then return nil, 'out' end
  return rec
end

-- Moves the attempt on, with what else changes, and its end with it.
local function move(rec, stage, life, fields)
  fields.st, fields.at, fields.exp, fields.life = stage, str(now), str(now + tonumber(life)), life
  local set = {}
  for field, value in pairs(fields) do
    rec[field] = value
    set[#set + 1] = field
    set[#set + 1] = value
  end
  redis.call('HSET', key, unpack(set))
  redis.call('PEXPIRE', key, life)
end

-- A write that changes nothing, so that WAIT after a repeated step waits for replicas all the same.
local function touch() redis.call('HSET', key, 'v', SCHEMA) end

local function answer(word, rec)
  local fields = {}
  for field, value in pairs(rec or {}) do
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  return { word, 0, 0, now, fields }
end
