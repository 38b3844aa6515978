-- What every step shares. It is put between a script's first line and the rest of it.
--
-- KEYS[1] is the record, and beside it stand the lines of its history, ARGV[1] the channel of changes, ARGV[2] the record's short name. An argument that may be absent
-- is empty, or '=' and then its value. Every script answers an array: a word, two numbers, the server's time in
-- milliseconds, and the record's fields and values after the step. {'UNREADABLE', field} answers a record that cannot be
-- understood; nothing was changed then. The checks here are those of Record::from_fields.

local key, channel, name = KEYS[1], ARGV[1], ARGV[2]
-- Not among the keys that are declared: while a slot of a cluster moves, one of the two is at the other node, and a step that
-- declares both is done at neither. The record decides where the step runs; a line may then be missing.
local history = key .. ':ev'
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local SCHEMA = '1'
local MOST_SPENT = 32
local MOST_EVENTS = 64
local TOMBSTONE_MS = 604800000
local CLOCK_TOLERANCE_MS = 5000

local STATES = {
  pending = true, active = true, leased = true, armed = true, uncertain = true, reauthorization_required = true,
  denied = true, revoked = true, expired = true,
}
local USABLE = { active = true, leased = true, armed = true, uncertain = true }
local TOMBSTONES = { denied = true, revoked = true, expired = true }
local OPEN = { leased = true, armed = true, uncertain = true }

local function is_number(text) return #text <= 15 and text:find('^%d+$') end
local function is_digest(text) return #text == 32 and text:find('^%x+$') end
local function is_version(text)
  local grant, generation = text:match('^(%x+)%.(%d+)$')
  return grant and is_digest(grant) and is_number(generation)
end
local function is_provider(text) return #text <= 64 and text:find('^%l[%l%d_-]*$') end
local function is_scope(text) return not text:find('[^ -~]') and not text:find('["\\]') end
local function are_digests(text)
  for word in text:gmatch('%S+') do
    if not is_digest(word) then return false end
  end
  return true
end

local CHECKS = {
  { 'prov', is_provider }, { 'grant', is_digest }, { 'gen', is_number }, { 'st', function(word) return STATES[word] end },
  { 'fence', is_number }, { 'at_iat', is_number }, { 'at_exp', is_number }, { 'life', is_number },
  { 'rt_fp', is_digest }, { 'spent', are_digests }, { 'scope', is_scope }, { 'c_exp', is_number },
  { 'lease', is_number }, { 'it_ver', is_version }, { 'it_at', is_number }, { 'it_n', is_number },
  { 'quar', is_number }, { 'next', is_number }, { 'fails', is_number }, { 'alt_ver', is_version },
  { 'old_ver', is_version }, { 'forced_at', is_number }, { 'ended_at', is_number }, { 'alt_fp', is_digest },
  { 'g_at', is_number }, { 'p_exp', is_number },
}

local stored = {}

-- The record as a table of fields, or nil; and the field that cannot be understood, if one cannot.
local function load()
  local flat = redis.call('HGETALL', key)
  if #flat == 0 then return nil end
  local rec = {}
  for i = 1, #flat, 2 do
    rec[flat[i]] = flat[i + 1]
    stored[flat[i]] = flat[i + 1]
  end
  if rec.v ~= SCHEMA then return nil, 'v' end
  for _, field in ipairs({ 'prov', 'grant', 'gen', 'st' }) do
    if not rec[field] then return nil, field end
  end
  for _, check in ipairs(CHECKS) do
    local value = rec[check[1]]
    if value and not check[2](value) then return nil, check[1] end
  end
  return rec
end

local function num(text) return tonumber(text or '0') end
local function str(number) return string.format('%.0f', number) end
local function opt(argument)
  if argument == '' then return nil end
  return argument:sub(2)
end

local function empty(provider, grant)
  return { v = SCHEMA, prov = provider, st = 'active', grant = grant, gen = '0' }
end

local function version(rec) return rec.grant .. '.' .. rec.gen end

-- That a consent's own time is over is seen and not written: a clock that is wrong for a minute must not end consents.
local function is_usable(rec)
  return USABLE[rec.st] and not (rec.c_exp and num(rec.c_exp) <= now)
end

local function remaining(rec)
  local from, till = num(rec.at_iat), num(rec.at_exp)
  if not rec.at or from > now + CLOCK_TOLERANCE_MS then return 0 end
  return math.max(0, math.min(till - now, till - from))
end

local function holds(rec, attempt, fence)
  return OPEN[rec.st] and rec.own == attempt and num(rec.fence) == tonumber(fence)
end

local function remember_spent(rec, fingerprint)
  if not fingerprint then return end
  local words = {}
  for word in (rec.spent or ''):gmatch('%S+') do
    if word == fingerprint then return end
    words[#words + 1] = word
  end
  words[#words + 1] = fingerprint
  rec.spent = table.concat(words, ' ', math.max(1, #words - MOST_SPENT + 1))
end

local function is_spent(rec, fingerprint)
  if num(rec.it_n) > 0 and rec.rt_fp == fingerprint then return true end
  for word in (rec.spent or ''):gmatch('%S+') do
    if word == fingerprint then return true end
  end
  return false
end

-- Leaves nothing of a refresh under way, of its failures, or of what was kept for them.
local SETTLED = {
  'own', 'lease', 'it_id', 'it_ver', 'it_at', 'it_n', 'quar', 'next', 'fails', 'why', 'alt_rt', 'alt_ver', 'alt_fp',
  'forced_at', 'lf', 'ra', 'p_exp',
}
local function settle(rec)
  rec.st = 'active'
  for _, field in ipairs(SETTLED) do rec[field] = nil end
end

local function put_tokens(rec, at, rt, rt_fp, left, life)
  rec.at, rec.rt, rec.rt_fp = at, rt, rt_fp
  rec.at_iat, rec.at_exp, rec.life = str(now), str(now + tonumber(left)), life
end

-- Writes what differs from what was loaded, and tells the others if the version is another or the consent became usable
-- or unusable.
local function save(rec)
  local set, drop = {}, {}
  for field, value in pairs(rec) do
    if stored[field] ~= value then
      set[#set + 1] = field
      set[#set + 1] = value
    end
  end
  for field in pairs(stored) do
    if rec[field] == nil then drop[#drop + 1] = field end
  end
  if #set > 0 then redis.call('HSET', key, unpack(set)) end
  if #drop > 0 then redis.call('HDEL', key, unpack(drop)) end
  local told
  if stored.gen then
    told = stored.grant ~= rec.grant or stored.gen ~= rec.gen or USABLE[stored.st] ~= USABLE[rec.st]
  else
    told = num(rec.gen) > 0
  end
  -- The news is a hint. Where this user may not publish, the step is done all the same and must not be called a failure.
  if told then redis.pcall('PUBLISH', channel, name .. ' ' .. version(rec)) end
end

-- Writes one line of the consent's history, as Event::to_line has it, unless the last one says the same. `said` is what
-- is known of the request, three words; `till` until when nobody tries again. The history is a help: where this user may
-- not write it, the step is done all the same. What is news to others they are told besides. A history begins with its record: where there is a record and no line, they
-- are at another node of a cluster, on their way here, and must not meet others.
local NEWS = {
  seeded = true, replaced = true, revived = true, committed = true, uncertain = true, holder_lost = true,
  suspended = true, ended = true,
}
local function event(rec, kind, attempt, why, said, till)
  if name:sub(1, 2) ~= 'c:' then return end
  local line = table.concat({
    kind, str(num(rec.fence)), version(rec), why or '-', said or '0 0 -', str(till or 0), attempt or '-',
  }, ' ')
  local last = redis.pcall('LRANGE', history, -1, -1)
  if last[1] and last[1]:match('^%d+ (.*)$') == line then return end
  if NEWS[kind] then
    redis.pcall('PUBLISH', channel, table.concat({ '!', name:sub(3), rec.prov, rec.st, str(now), line }, ' '))
  end
  if stored.gen and not last[1] then return end
  local count = redis.pcall('RPUSH', history, str(now) .. ' ' .. line)
  if type(count) ~= 'number' then return end
  if count > MOST_EVENTS then redis.pcall('LTRIM', history, -MOST_EVENTS, -1) end
  if count == 1 and TOMBSTONES[rec.st] then redis.pcall('PEXPIRE', history, TOMBSTONE_MS) end
end

-- A refresh token that may have been sent is never to be sent again.
local function remember_unexplained(rec)
  if num(rec.it_n) > 0 then remember_spent(rec, rec.rt_fp) end
end

-- A write that changes nothing, so that WAIT after a repeated step waits for replicas all the same.
local function touch() redis.call('HSET', key, 'v', SCHEMA) end

local function answer(word, rec, first, second)
  local fields = {}
  for field, value in pairs(rec or {}) do
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  return { word, first or 0, second or 0, now, fields }
end
