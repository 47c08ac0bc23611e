-- follow: what changed in the line since a step of the feed. Changes nothing.
--
-- The step itself is read again: only when it is still there can nothing have been missed, whether the feed was cut
-- off, the store came back empty, or it came back older than the reader.
--
-- KEYS
--   1 event
--   2 line
--   3 parked
--   4 active
--   5 feed
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 cursor: the last step that is known, or "" for none
--   3 most: steps at most
-- REPLY
--   0, the eleven numbers of counters,
--   then 1 (in step) or 0 (the cursor is not in the feed), 1 (there is more) or 0, the last step,
--   then the changes of each step: "+first-last", "-number", "^number", separated by spaces
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   reads

local event = load_event(KEYS[1])
if not event then return { UNKNOWN_EVENT } end
local cursor, most = ARGV[2], tonumber(ARGV[3])
local reply = put_counters({ 0 }, event, KEYS[2], KEYS[3], KEYS[4], clock(ARGV[1]))

local steps = cursor ~= '' and redis.call('XRANGE', KEYS[5], cursor, '+', 'COUNT', most + 1) or {}
if #steps == 0 or steps[1][1] ~= cursor then
  local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
  reply[13], reply[14], reply[15] = 0, 0, last and last[1] or '0-0'
  return reply
end
reply[13], reply[14], reply[15] = 1, #steps > most and 1 or 0, steps[#steps][1]
for i = 2, #steps do reply[#reply + 1] = steps[i][2][2] end
return reply
