-- What the steps on a provider's record share. It is put between a script's first line and the rest of it.
--
-- KEYS[1] is the provider's record. Every script answers an array: a word, two numbers, the server's time in
-- milliseconds, and the record's fields and values after the step. {'UNREADABLE', field} answers a record that cannot be
-- understood; nothing was changed then. The decisions are those of store/provider/steps.rs, constants included.

local key = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local SCHEMA = '1'
local FAILURES, REFUSED, WINDOW = 5, 3, 60000
local OPEN_FIRST, OPEN_MOST, OPEN_LEAST = 1000, 60000, 100
local PREFERENCE, HUNGER, SECOND, ASK_AGAIN, LONGEST = 1000, 1000, 1000, 100, 60000
local MOST_CANARIES, MOST_SUSPECTS = 8, 64
local ALL_REFUSED, RATE_LIMITED = 'all_refused', 'rate_limited'

local CLASSES = { unavailable = true, misconfigured = true }
-- Why a provider is frozen, the gravest first.
local REASONS = { 'old_backup', 'operator' }

local function is_number(text) return #text <= 15 and text:find('^%d+$') end

local CHECKS = {
  { 'fails', is_number },
  { 'opened', is_number }, { 'until', is_number }, { 'class', function(word) return CLASSES[word] end },
  { 'hungry', is_number },
}

local stored = {}

local function str(number) return string.format('%.0f', number) end

local function words(text)
  local list = {}
  for word in (text or ''):gmatch('%S+') do list[#list + 1] = word end
  return list
end

-- Keeps the entries that a test lets pass.
local function keep(list, test)
  local kept = {}
  for _, entry in ipairs(list) do
    if test(entry) then kept[#kept + 1] = entry end
  end
  return kept
end

local function find(list, test)
  for i, entry in ipairs(list) do
    if test(entry) then return i end
  end
end

local function permit_of(word)
  local till, at, id = word:match('^(%d+)|(%d+)|(.+)$')
  return till and { till = tonumber(till), at = tonumber(at), id = id }
end

local function suspect_of(word)
  local stage, at, version, fence, attempt, probe, name = word:match('^(%l+)|(%d+)|([^|]+)|(%d+)|([^|]+)|([01])|(.+)$')
  return stage and {
    stage = stage, at = tonumber(at), version = version, fence = fence, attempt = attempt, probe = probe, name = name,
  }
end

local function parsed(text, parse)
  local list = {}
  for _, word in ipairs(words(text)) do
    local entry = parse(word)
    if entry then list[#list + 1] = entry end
  end
  return list
end

-- The record taken apart, or nil and the field that cannot be understood.
local function load()
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do stored[flat[i]] = flat[i + 1] end
  if #flat > 0 and stored.v ~= SCHEMA then return nil, 'v' end
  for _, check in ipairs(CHECKS) do
    local value = stored[check[1]]
    if value and not check[2](value) then return nil, check[1] end
  end
  -- By reason.
  local frozen = {}
  for _, word in ipairs(words(stored.fz)) do
    local of = 'fz_' .. word .. '_'
    local at = stored[of .. 'at'] or '0'
    if not find(REASONS, function(reason) return reason == word end) or not is_number(at) then return nil, 'fz' end
    frozen[word] = { by = stored[of .. 'by'], why = stored[of .. 'why'], at = at }
  end
  return {
    frozen = frozen, over = stored.fz_over,
    fails = tonumber(stored.fails or '0'), opened = tonumber(stored.opened or '0'),
    till = tonumber(stored['until'] or '0'), class = stored.class, why = stored.why or '',
    canary = permit_of(stored.canary or ''), canaries = words(stored.canaries),
    permits = parsed(stored.permits, permit_of), sent = parsed(stored.sent, tonumber),
    hungry = tonumber(stored.hungry or '0'), suspects = parsed(stored.suspects, suspect_of),
  }
end

local function permit_word(permit) return str(permit.till) .. '|' .. str(permit.at) .. '|' .. permit.id end

local function suspect_word(s)
  return table.concat({ s.stage, str(s.at), s.version, s.fence, s.attempt, s.probe, s.name }, '|')
end

local function joined(list, word)
  local texts = {}
  for i, entry in ipairs(list) do texts[i] = word and word(entry) or entry end
  return table.concat(texts, ' ')
end

local function fields_of(rec)
  local fields = { v = SCHEMA }
  local function put(name, text)
    if text and text ~= '' then fields[name] = text end
  end
  local function put_number(name, number)
    if number > 0 then fields[name] = str(number) end
  end
  local reasons = keep(REASONS, function(reason) return rec.frozen[reason] end)
  put('fz', joined(reasons))
  for _, reason in ipairs(reasons) do
    local of, frozen = 'fz_' .. reason .. '_', rec.frozen[reason]
    put(of .. 'by', frozen.by)
    put(of .. 'why', frozen.why)
    put(of .. 'at', frozen.at)
  end
  put('fz_over', rec.over)
  put_number('fails', rec.fails)
  put_number('opened', rec.opened)
  put_number('until', rec.till)
  put('class', rec.class)
  put('why', rec.why)
  put('canary', rec.canary and permit_word(rec.canary))
  put('canaries', joined(rec.canaries))
  put('permits', joined(rec.permits, permit_word))
  put('sent', joined(rec.sent, str))
  put_number('hungry', rec.hungry)
  put('suspects', joined(rec.suspects, suspect_word))
  return fields
end

-- Answers, without writing.
local function told(word, rec, first, second)
  local flat = {}
  for field, value in pairs(fields_of(rec)) do
    flat[#flat + 1] = field
    flat[#flat + 1] = value
  end
  return { word, first or 0, second or 0, now, flat }
end

-- Writes what differs from what was loaded, and answers.
local function done(word, rec, first, second)
  local fields, set, drop = fields_of(rec), {}, {}
  for field, value in pairs(fields) do
    if stored[field] ~= value then
      set[#set + 1] = field
      set[#set + 1] = value
    end
  end
  for field in pairs(stored) do
    if fields[field] == nil then drop[#drop + 1] = field end
  end
  if #set > 0 then redis.call('HSET', key, unpack(set)) end
  if #drop > 0 then redis.call('HDEL', key, unpack(drop)) end
  return told(word, rec, first, second)
end

local function keep_last(list, most)
  while #list > most do table.remove(list, 1) end
end

local function is_client(name) return name:sub(1, 2) == 'k:' end

-- Drops permits that have run out and sends that count no more, and what a clock that was set back left in the future.
local function forget_the_past(rec)
  rec.permits = keep(rec.permits, function(permit) return permit.till > now and permit.till <= now + LONGEST end)
  if rec.canary and (rec.canary.till <= now or rec.canary.till > now + LONGEST) then rec.canary = nil end
  rec.sent = keep(rec.sent, function(at) return math.abs(at - now) < SECOND end)
  rec.till = math.min(rec.till, now + OPEN_MOST)
  if rec.hungry > now then rec.hungry = 0 end
end

-- That everybody is refused is not forgotten over a bank that cannot be reached meanwhile.
local function blame(rec, class, why)
  if rec.opened == 0 or rec.why ~= ALL_REFUSED then rec.class, rec.why = class, why end
end

local function open(rec, spread)
  local full = math.min(OPEN_FIRST * 2 ^ math.min(rec.opened, 6), OPEN_MOST)
  rec.opened = rec.opened + 1
  rec.till = now + math.max(math.floor(full * math.min(spread, 999) / 999), OPEN_LEAST)
end
