#!lua flags=no-writes,allow-oom
-- HISTORY: the lines of a consent's history, oldest first, each after its number.
-- KEYS[1] record. ARGV: channel, name.
-- Returns LINES.

local fields = {}
local lines = redis.pcall('LRANGE', history, 0, -1)
if lines.err then
  if lines.err:find('^WRONGTYPE') then return lines end
  lines = {}
end
for number, line in ipairs(lines) do
  fields[#fields + 1] = str(number)
  fields[#fields + 1] = line
end
return { 'LINES', 0, 0, now, fields }
