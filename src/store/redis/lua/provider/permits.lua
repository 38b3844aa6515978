#!lua flags=allow-oom
-- PERMITS: leave to send token requests.
-- KEYS[1] record. ARGV: waiting 0|1, most in flight, most a second, life ms, then for each that is wanted its permit and
-- the short name of its token.
-- Returns GRANTED with the first of the wanted that is granted, from 0, and how many; FULL or OPEN with the ms to wait;
-- FROZEN.

local waiting, in_flight, per_second, life = ARGV[1] == '1', tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local wanted = {}
for i = 5, #ARGV, 2 do wanted[#wanted + 1] = { id = ARGV[i], name = ARGV[i + 1] } end

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
forget_the_past(rec)
if next(rec.frozen) then return done('FROZEN', rec) end

-- How long to wait for room; 0, there is some. A request counts from its permit until a second after its end.
local function room_in()
  if #rec.permits >= in_flight then return ASK_AGAIN end
  local too_many = #rec.permits + #rec.sent - per_second
  if too_many < 0 then return 0 end
  local first = rec.sent[too_many + 1]
  return first and math.max(1, first + SECOND - now) or ASK_AGAIN
end

local function grant(id)
  rec.permits[#rec.permits + 1] = { id = id, at = now, till = now + life }
end

-- An opening that is over lets one request through: the canary.
local function try_one()
  if now < rec.till then return done('OPEN', rec, rec.till - now) end
  if rec.canary then
    local own = find(wanted, function(one) return one.id == rec.canary.id end)
    if own then return done('GRANTED', rec, own - 1, 1) end
    return done('OPEN', rec, SECOND)
  end
  local tried = {}
  for _, name in ipairs(rec.canaries) do tried[name] = true end
  local chosen = find(wanted, function(one) return not tried[one.name] end)
  if now < rec.till + PREFERENCE then
    if not waiting then chosen = nil end
  elseif not chosen and #wanted > 0 then
    chosen = 1
  end
  if not chosen then return done('OPEN', rec, math.max(0, rec.till + PREFERENCE - now)) end
  local wait = room_in()
  if wait > 0 then return done('FULL', rec, wait) end
  local one = wanted[chosen]
  grant(one.id)
  rec.canary = rec.permits[#rec.permits]
  rec.canaries = keep(rec.canaries, function(name) return name ~= one.name end)
  rec.canaries[#rec.canaries + 1] = one.name
  keep_last(rec.canaries, MOST_CANARIES)
  return done('GRANTED', rec, chosen - 1, 1)
end

local most = #wanted
if rec.opened > 0 then
  -- That refresh tokens are refused says nothing about our client's own tokens.
  most = 0
  while rec.why == ALL_REFUSED and most < #wanted and is_client(wanted[most + 1].name) do most = most + 1 end
  if most == 0 then return try_one() end
end
local hunger = rec.hungry + HUNGER - now
if not waiting and hunger > 0 then return done('FULL', rec, hunger) end
local granted = 0
for i = 1, most do
  local one = wanted[i]
  if not find(rec.permits, function(permit) return permit.id == one.id end) then
    if room_in() > 0 then break end
    grant(one.id)
  end
  granted = granted + 1
end
if waiting and granted < most then rec.hungry = now end
if granted == 0 then return done('FULL', rec, room_in()) end
return done('GRANTED', rec, 0, granted)
