#!lua flags=allow-oom
-- TAKE FEED: the right to read a provider's feed, or to go on reading it.
-- KEYS[1] record. ARGV: who, life ms.
-- Returns TAKEN with the record; BUSY with the ms to wait.

local by, life = ARGV[1], tonumber(ARGV[2])

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
local till = num(rec['until'])
local leased, own = till > now and till <= now + LONGEST, rec.own == by
if leased and not own then return answer('BUSY', rec, till - now) end
local fields = { ['until'] = str(now + life), own = by, fence = rec.fence or '0' }
if not (leased and own) then fields.fence = str(num(rec.fence) + 1) end
put(rec, fields)
return answer('TAKEN', rec)
