#!lua flags=allow-oom
-- REPRIEVE: takes back a suspension, if the consent is suspended by exactly that refusal. The lease may have a later
-- fence by now: one that the store forgot was told again.
-- KEYS[1] record. ARGV: channel, name, attempt, fence, grant, generation, uncertain 0|1.
-- Returns REPRIEVED, NOT_NEEDED.

local attempt, fence, grant, generation, uncertain = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7] == '1'

local rec, bad = load()
if bad then return { 'UNREADABLE', bad } end
if not rec or rec.st ~= 'reauthorization_required' then return answer('NOT_NEEDED') end
local failed, holder = (rec.lf or ''):match('^(%d+) (.+)$')
local refused = holder == attempt and tonumber(failed) >= tonumber(fence)
if rec.grant ~= grant or num(rec.gen) ~= tonumber(generation) or not refused then return answer('NOT_NEEDED') end
rec.why = 'refused_once'
if uncertain then
  rec.st, rec.it_n, rec.quar = 'uncertain', '1', nil
else
  rec.st = 'active'
end
event(rec, 'revived', attempt, 'pardoned')
save(rec)
return answer('REPRIEVED')
