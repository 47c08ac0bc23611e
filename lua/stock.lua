-- stock: the fast inventory of an event. Changes nothing.
--
-- KEYS
--   1 event
--   2 zones
-- ARGV
--   none
-- REPLY
--   0, then for each zone: its name, "capacity taken version held"
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   reads

if redis.call('EXISTS', KEYS[1]) == 0 then return { UNKNOWN_EVENT } end
local reply = redis.call('HGETALL', KEYS[2])
table.insert(reply, 1, 0)
return reply
