-- stale_holds: the bookings whose holds are due, oldest first. Changes nothing.
--
-- KEYS
--   1 event
--   2 due
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 most: how many at most
-- REPLY
--   0, then the bookings
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   reads

if redis.call('EXISTS', KEYS[1]) == 0 then return { UNKNOWN_EVENT } end
local reply = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', whole(clock(ARGV[1])), 'LIMIT', 0, ARGV[2])
table.insert(reply, 1, 0)
return reply
