-- leave: takes visitors out of the line, or takes their passes back.
--
-- A place or a pass with another number is left alone, and so is a pass that a reservation has in use.
--
-- KEYS
--   1 event
--   2 line
--   3 passes
--   4 active
--   5 ended
--   6 feed
--   7 parked
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 ended_ttl: microseconds for which an ended pass is remembered
--   3.. visitor, number
-- REPLY
--   0, then one number a visitor: 1 left the line, 2 gave the pass back, 3 nothing to leave
-- ERRORS
--   -1 the event is not known
--   -2 a visitor without a number
-- WHEN FULL
--   runs: it frees

local line, passes = KEYS[2], KEYS[3]
local event = load_event(KEYS[1])
if not event then return { UNKNOWN_EVENT } end
if #ARGV % 2 ~= 0 then return { BAD_ARGUMENTS } end

local now, ended_ttl, reply, gone, left = clock(ARGV[1]), tonumber(ARGV[2]), { 0 }, {}, 0
for i = 3, #ARGV, 2 do
  local visitor, number, code = ARGV[i], tonumber(ARGV[i + 1]), 3
  if tonumber(redis.call('ZSCORE', line, visitor) or nil) == number then
    redis.call('ZREM', line, visitor)
    gone[#gone + 1], left, code = '-' .. whole(number), left + 1, 1
  elseif tonumber(redis.call('ZSCORE', KEYS[7], visitor) or nil) == number then
    redis.call('ZREM', KEYS[7], visitor)
    left, code = left + 1, 1
  else
    local pass = read_pass(redis.call('HGET', passes, visitor))
    if pass and pass.number == number and pass.state == 'a' and is_good(pass, now, KEYS[4], visitor) then
      pass.state, code = 'v', 2
      redis.call('HSET', passes, visitor, pass_text(pass))
      redis.call('ZREM', KEYS[4], visitor)
      redis.call('ZADD', KEYS[5], whole(pass.expires + ended_ttl), visitor)
    end
  end
  reply[#reply + 1] = code
end
if left > 0 then redis.call('HSET', KEYS[1], 'left', whole(event.left + left)) end
if #gone > 0 then tell(KEYS[6], table.concat(gone, ' ')) end
return reply
