-- forget_zones: forgets zones that the event no longer has.
--
-- KEYS
--   1 event
--   2 zones
-- ARGV
--   1.. zone
-- REPLY
--   0, zones that there were
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   runs: it frees

if redis.call('EXISTS', KEYS[1]) == 0 then return { UNKNOWN_EVENT } end
if #ARGV == 0 then return { 0, 0 } end
return { 0, redis.call('HDEL', KEYS[2], unpack(ARGV)) }
