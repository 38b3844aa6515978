#!lua flags=no-writes,allow-oom
-- HISTORY: the lines of a consent's history, oldest first, each after its number.
-- KEYS[2] the lines. ARGV: channel, name.
-- Returns LINES.

local fields = {}
for number, line in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  fields[#fields + 1] = str(number)
  fields[#fields + 1] = line
end
return { 'LINES', 0, 0, now, fields }
