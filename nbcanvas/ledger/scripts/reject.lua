-- Take a message out of circulation, into the list of dead letters.
--
-- KEYS: unacked hash, begun set, dead letters, their count.
-- ARGV: tag, the dead letter, how many are kept.
-- Returns whether the message was this worker's.

if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('LPUSH', KEYS[3], ARGV[2])
redis.call('LTRIM', KEYS[3], 0, tonumber(ARGV[3]) - 1)
redis.call('INCR', KEYS[4])
return 1
