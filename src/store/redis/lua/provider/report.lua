#!lua flags=allow-oom
-- REPORT: takes a permit back, and learns from what it was used for.
-- KEYS[1] record. ARGV: permit, short name of its token, spread, unused|neutral|succeeded|failed|held|refused, and then
-- of a failure class and why, of a hold the ms, of a refusal version, fence and probe 0|1.
-- Returns NOTED, SUSPEND, SPARE; the first number says whose suspension is to be taken back: of nobody (0), of those in
-- the stage spared (1) or retry (2).

local id, name, spread, lesson = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end

local at = find(rec.permits, function(permit) return permit.id == id end)
local held = at and table.remove(rec.permits, at)
if held and lesson ~= 'unused' then
  rec.sent = keep(rec.sent, function(past) return math.abs(past - now) < SECOND end)
  rec.sent[#rec.sent + 1] = now
end
local is_canary = rec.canary and rec.canary.id == id
if is_canary then rec.canary = nil end

if lesson == 'unused' then return done('NOTED', rec) end
if lesson == 'neutral' then
  if is_canary then open(rec, spread) end
  return done('NOTED', rec)
end
if lesson == 'failed' then
  -- Of a permit that was given back before this is a repetition.
  if held and rec.opened > 0 then
    if is_canary then
      blame(rec, ARGV[5], ARGV[6])
      open(rec, spread)
    end
  elseif held then
    rec.fails = rec.fails + 1
    if rec.fails >= FAILURES then
      blame(rec, ARGV[5], ARGV[6])
      open(rec, spread)
    end
  end
  return done('NOTED', rec)
end
if lesson == 'held' then
  if held then
    blame(rec, 'unavailable', RATE_LIMITED)
    rec.opened = math.max(1, rec.opened)
    rec.till = math.max(rec.till, now + math.min(tonumber(ARGV[5]), OPEN_MOST))
  end
  return done('NOTED', rec)
end

if lesson == 'succeeded' then
  rec.fails = 0
  local was_open = rec.opened > 0
  -- The breaker closes on its canary's success alone: what else comes back meanwhile was sent before it opened.
  if was_open and not is_canary then return done('NOTED', rec) end
  rec.opened, rec.till, rec.class, rec.why, rec.canaries = 0, 0, nil, '', {}
  if is_client(name) then return done('NOTED', rec) end
  rec.suspects = keep(rec.suspects, function(s)
    -- What was sent before a refusal says nothing about it.
    local outlived = held and s.at <= held.at
    return s.name ~= name and (s.stage ~= 'listed' or not outlived)
  end)
  for _, s in ipairs(rec.suspects) do
    if s.stage == 'spared' then s.stage = 'retry' end
  end
  return done('NOTED', rec, was_open and 2 or 0)
end

local version, fence, probe = ARGV[5], ARGV[6], ARGV[7]
rec.suspects = keep(rec.suspects, function(s) return s.stage ~= 'listed' or math.max(0, now - s.at) < WINDOW end)
local known = find(rec.suspects, function(s) return s.name == name end)
local before = known and table.remove(rec.suspects, known) or {}
local is_repeated = before.version == version and before.fence == fence and before.probe == probe
  and before.attempt == id
local refusing = rec.opened > 0 and rec.why == ALL_REFUSED
if is_canary then open(rec, spread) end
if before.stage == 'retry' and not refusing and not is_repeated then return done('SUSPEND', rec) end
local stage = rec.opened > 0 and 'spared' or 'listed'
if is_repeated then stage = before.stage end
local own = { stage = stage, at = now, version = version, fence = fence, attempt = id, probe = probe, name = name }
rec.suspects[#rec.suspects + 1] = own
keep_last(rec.suspects, MOST_SUSPECTS)
local listed = keep(rec.suspects, function(s) return s.stage == 'listed' end)
if rec.opened == 0 and #listed >= REFUSED then
  blame(rec, 'misconfigured', ALL_REFUSED)
  open(rec, spread)
  for _, s in ipairs(listed) do s.stage = 'spared' end
end
if own.stage == 'listed' then return done('SUSPEND', rec) end
return done('SPARE', rec, 1)
