#!lua flags=allow-oom
-- BEGIN: asks for a token, or for the right to get one.
-- KEYS[1] record. ARGV: channel, name, attempt, provider, wanted ms, [rejected version], rejection pause ms, lease ms,
-- quarantine ms, grace ms, grace pause ms, [grant to create under].
-- Returns UNKNOWN, REFUSED, FRESH; BUSY, BACKOFF, QUARANTINE, HOLD with the ms to wait; GRANTED with fence and probe 0|1.

local attempt, provider, wanted = ARGV[3], ARGV[4], tonumber(ARGV[5])
local rejected, pause, lease = opt(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local quarantine, grace, grace_pause, create = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11]), opt(ARGV[12])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end

local function granted()
  return answer('GRANTED', rec, num(rec.fence), rec.st == 'uncertain' and 1 or 0)
end

local function grant()
  rec.fence = str(num(rec.fence) + 1)
  rec.own = attempt
  rec.lease = str(now + lease)
  if rec.st ~= 'uncertain' then rec.st = 'leased' end
  save(rec)
  return granted()
end

if not rec then
  if not create then return answer('UNKNOWN') end
  rec = empty(provider, create)
  return grant()
end
if rec.prov ~= provider then return answer('UNKNOWN') end
if not is_usable(rec) then return answer('REFUSED', rec) end

-- The life of a token that the bank's API refused does not count, unless a refresh was forced for that a moment ago.
local left = remaining(rec)
local doubted = rec.forced_at and math.max(0, now - num(rec.forced_at)) < pause
if rejected == version(rec) and not doubted then left = 0 end
if left > wanted then return answer('FRESH', rec) end

-- In an uncertain record the holder is either a prober or still the sender whose fate is not known.
local probing = rec.st == 'uncertain' and rec.own and not (rec.it_ver and rec.own == rec.it_id)
if rec.own == attempt and (rec.st == 'leased' or probing) then
  rec.lease = str(now + lease)
  save(rec)
  return granted()
end
if num(rec.next) > now then return answer('BACKOFF', rec, num(rec.next) - now) end
if (rec.st == 'leased' or rec.st == 'armed' or probing) and num(rec.lease) > now then
  return answer('BUSY', rec, num(rec.lease) - now)
end
if rec.st == 'armed' then
  rec.st = 'uncertain'
  -- Counted from when somebody notices: if nobody reached the store for a while, the holder's answer may be on its way
  -- here as well.
  rec.quar = str(now)
end
if rec.st == 'uncertain' then
  -- Within its grace the bank takes the token once more, and there is no use in waiting until the window is over.
  local graced = rec.it_ver and now < num(rec.it_at) + grace
  local free = num(rec.quar) + (graced and math.min(grace_pause, quarantine) or quarantine)
  if now < free then
    save(rec)
    return answer('QUARANTINE', rec, free - now)
  end
  if not graced and left > 0 then
    save(rec)
    return answer('HOLD', rec, left)
  end
end
return grant()
