-- locate: says where each visitor stands. Changes nothing.
--
-- KEYS
--   1 event
--   2 line
--   3 joins
--   4 passes
--   5 active
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2.. visitor
-- REPLY
--   0, then four numbers a visitor:
--   1 number position joined_at: in line              2 number admitted_at expires_at: has a good pass
--   3 number admitted_at expires_at: used it          4 number admitted_at expires_at: it ran out
--   5 0 0 0: not here
-- ERRORS
--   -1 the event is not known

local line = KEYS[2]
if redis.call('EXISTS', KEYS[1]) == 0 then return { UNKNOWN_EVENT } end
if #ARGV < 2 then return { 0 } end

local now = clock(ARGV[1])
local numbers = redis.call('ZMSCORE', line, unpack(ARGV, 2))
local passes = redis.call('HMGET', KEYS[4], unpack(ARGV, 2))
local reply = { 0 }

local function answer(code, a, b, c)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = code, a, b, c
end

for i, text in ipairs(passes) do
  local number, pass = tonumber(numbers[i] or nil), read_pass(text)
  if number then
    answer(1, number, redis.call('ZRANK', line, ARGV[i + 1]) + 1, joined_at(KEYS[3], number))
  elseif not pass or pass.state == 'v' then
    answer(5, 0, 0, 0)
  elseif pass.state == 'u' then
    answer(3, pass.number, pass.admitted, pass.expires)
  elseif is_good(pass, now, KEYS[5], ARGV[i + 1]) then
    answer(2, pass.number, pass.admitted, pass.expires)
  else
    answer(4, pass.number, pass.admitted, pass.expires)
  end
end
return reply
