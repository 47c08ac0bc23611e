-- locate: says where each visitor stands. Changes nothing.
--
-- KEYS
--   1 event
--   2 line
--   3 joins
--   4 passes
--   5 active
--   6 parked
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2.. visitor
-- REPLY
--   0, then four numbers a visitor:
--   1 number position joined_at: in line              2 number admitted_at expires_at: has a good pass
--   3 number admitted_at expires_at: used it          4 number admitted_at expires_at: it ran out
--   5 0 0 0: not here                                6 number 0 joined_at: parked
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   reads

local line = KEYS[2]
if redis.call('EXISTS', KEYS[1]) == 0 then return { UNKNOWN_EVENT } end
if #ARGV < 2 then return { 0 } end

local now = clock(ARGV[1])
local numbers = redis.call('ZMSCORE', line, unpack(ARGV, 2))
local passes = redis.call('HMGET', KEYS[4], unpack(ARGV, 2))
local away = redis.call('ZMSCORE', KEYS[6], unpack(ARGV, 2))
local reply = { 0 }

for i, text in ipairs(passes) do
  local number, visitor = tonumber(numbers[i] or nil), ARGV[i + 1]
  if number then
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3] = 1, number, redis.call('ZRANK', line, visitor) + 1
    reply[n + 4] = joined_at(KEYS[3], number)
  elseif away[i] then
    local n = #reply
    reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = 6, tonumber(away[i]), 0, joined_at(KEYS[3], away[i])
  else
    put_standing(reply, read_pass(text), now, KEYS[5], visitor)
  end
end
return reply
