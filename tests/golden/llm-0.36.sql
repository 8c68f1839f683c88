CREATE TABLE "threads" (
   "id" TEXT PRIMARY KEY,
   "name" TEXT,
   "tip_message_hash" TEXT REFERENCES "messages"("hash"),
   "forked_from" TEXT REFERENCES "threads"("id"),
   "datetime_utc" TEXT
);
INSERT INTO "threads" VALUES ('01m8h36cgabprw53ny61n7kbaa','Ann','b2:76b2508a3ea5d37ea43bbac9a7599364',NULL,'2026-11-28 12:48:30.223539+00:00');
INSERT INTO "threads" VALUES ('01m8h36chtnk3k2a6as4fvmh1a','How is the stock of A-1?','b2:db605a197e5c31b1f263582028082990',NULL,'2026-11-28 12:48:30.268862+00:00');
INSERT INTO "threads" VALUES ('01m8h36ck0313zt4a34j0w2nsc','Look','b2:66975425fd01eae418fc0878281eb387',NULL,'2026-11-28 12:48:30.304799+00:00');
INSERT INTO "threads" VALUES ('01m8h36ckt8e8waqjwqs3t8mnr','A long novel. Sum it up','b2:9c1863583e39261771b465a3ee9134d0',NULL,'2026-11-28 12:48:30.330249+00:00');
CREATE TABLE "messages" (
   "hash" TEXT PRIMARY KEY,
   "parent_hash" TEXT REFERENCES "messages"("hash"),
   "role" TEXT,
   "provider_metadata" TEXT
);
INSERT INTO "messages" VALUES ('b2:20707d600a054a5ccdf13c35042960d8',NULL,'system',NULL);
INSERT INTO "messages" VALUES ('b2:6476ffc57c63276959848de81efa179e','b2:20707d600a054a5ccdf13c35042960d8','user',NULL);
INSERT INTO "messages" VALUES ('b2:9805a84755abd5ef1a577f3049582d09','b2:6476ffc57c63276959848de81efa179e','assistant',NULL);
INSERT INTO "messages" VALUES ('b2:f18f4c63e5e0fe2acb061c9aac4ae1a7','b2:9805a84755abd5ef1a577f3049582d09','user',NULL);
INSERT INTO "messages" VALUES ('b2:76b2508a3ea5d37ea43bbac9a7599364','b2:f18f4c63e5e0fe2acb061c9aac4ae1a7','assistant',NULL);
INSERT INTO "messages" VALUES ('b2:12c09a8d403e4122c3956abe840a0eb7',NULL,'system',NULL);
INSERT INTO "messages" VALUES ('b2:e5ab53d2bd3fb86353545b25303e6487','b2:12c09a8d403e4122c3956abe840a0eb7','user',NULL);
INSERT INTO "messages" VALUES ('b2:972ab6727863e710cd224b0b668ce0ca','b2:e5ab53d2bd3fb86353545b25303e6487','assistant',NULL);
INSERT INTO "messages" VALUES ('b2:f5d860fe7691213e9c3fce085f6eb6f2','b2:972ab6727863e710cd224b0b668ce0ca','tool',NULL);
INSERT INTO "messages" VALUES ('b2:db605a197e5c31b1f263582028082990','b2:f5d860fe7691213e9c3fce085f6eb6f2','assistant',NULL);
INSERT INTO "messages" VALUES ('b2:3e2e94c7a5741038132a07e7f7aa7e29',NULL,'user',NULL);
INSERT INTO "messages" VALUES ('b2:66975425fd01eae418fc0878281eb387','b2:3e2e94c7a5741038132a07e7f7aa7e29','assistant',NULL);
INSERT INTO "messages" VALUES ('b2:4be81f8a980b39b57b3778ecb1a3d3da',NULL,'user',NULL);
INSERT INTO "messages" VALUES ('b2:9c1863583e39261771b465a3ee9134d0','b2:4be81f8a980b39b57b3778ecb1a3d3da','assistant',NULL);
CREATE TABLE "parts" (
   "id" INTEGER PRIMARY KEY,
   "message_hash" TEXT REFERENCES "messages"("hash"),
   "position" INTEGER,
   "type" TEXT,
   "tool_name" TEXT,
   "text" TEXT,
   "payload" TEXT
);
INSERT INTO "parts" VALUES (1,'b2:20707d600a054a5ccdf13c35042960d8',0,'text',NULL,'Be short.',NULL);
INSERT INTO "parts" VALUES (2,'b2:6476ffc57c63276959848de81efa179e',0,'text',NULL,'Ann',NULL);
INSERT INTO "parts" VALUES (3,'b2:9805a84755abd5ef1a577f3049582d09',0,'text',NULL,'Hello, Ann',NULL);
INSERT INTO "parts" VALUES (4,'b2:f18f4c63e5e0fe2acb061c9aac4ae1a7',0,'text',NULL,'Bob',NULL);
INSERT INTO "parts" VALUES (5,'b2:76b2508a3ea5d37ea43bbac9a7599364',0,'text',NULL,'Hello, Bob',NULL);
INSERT INTO "parts" VALUES (6,'b2:12c09a8d403e4122c3956abe840a0eb7',0,'text',NULL,'You keep a shop.',NULL);
INSERT INTO "parts" VALUES (7,'b2:e5ab53d2bd3fb86353545b25303e6487',0,'text',NULL,'How is the stock of A-1?',NULL);
INSERT INTO "parts" VALUES (8,'b2:972ab6727863e710cd224b0b668ce0ca',0,'text',NULL,'I look.',NULL);
INSERT INTO "parts" VALUES (9,'b2:972ab6727863e710cd224b0b668ce0ca',1,'tool_call','stock',NULL,'{"name": "stock", "arguments": {"sku": "A-1"}, "tool_call_id": "c1"}');
INSERT INTO "parts" VALUES (10,'b2:f5d860fe7691213e9c3fce085f6eb6f2',0,'tool_result','stock',NULL,'{"name": "stock", "output": "4", "tool_call_id": "c1"}');
INSERT INTO "parts" VALUES (11,'b2:db605a197e5c31b1f263582028082990',0,'text',NULL,'There are 4.',NULL);
INSERT INTO "parts" VALUES (12,'b2:3e2e94c7a5741038132a07e7f7aa7e29',0,'text',NULL,'Look',NULL);
INSERT INTO "parts" VALUES (13,'b2:3e2e94c7a5741038132a07e7f7aa7e29',1,'attachment',NULL,NULL,'{"attachment": {"id": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}}');
INSERT INTO "parts" VALUES (14,'b2:66975425fd01eae418fc0878281eb387',0,'text',NULL,'Hello, Look',NULL);
INSERT INTO "parts" VALUES (15,'b2:4be81f8a980b39b57b3778ecb1a3d3da',0,'text',NULL,NULL,'{"text_ref": [{"fragment": 1}, {"literal": "\nSum it up"}]}');
INSERT INTO "parts" VALUES (16,'b2:9c1863583e39261771b465a3ee9134d0',0,'text',NULL,'Hello, A long novel.
Sum it up',NULL);
CREATE TABLE "turns" (
   "id" TEXT PRIMARY KEY,
   "thread_id" TEXT REFERENCES "threads"("id"),
   "parent_message_hash" TEXT REFERENCES "messages"("hash"),
   "tip_message_hash" TEXT REFERENCES "messages"("hash"),
   "model" TEXT,
   "resolved_model" TEXT,
   "options_json" TEXT,
   "schema_id" TEXT REFERENCES "schemas"("id"),
   "input_tokens" INTEGER,
   "output_tokens" INTEGER,
   "token_details" TEXT,
   "duration_ms" INTEGER,
   "datetime_utc" TEXT
, "response_json" TEXT);
INSERT INTO "turns" VALUES ('01m8h36cgabprw53ny61n7kbab','01m8h36cgabprw53ny61n7kbaa','b2:6476ffc57c63276959848de81efa179e','b2:9805a84755abd5ef1a577f3049582d09','fake',NULL,NULL,NULL,NULL,NULL,NULL,0,'2026-11-28T12:48:30.218907+00:00',NULL);
INSERT INTO "turns" VALUES ('01m8h36ch19pa36qp6bxy82w6b','01m8h36cgabprw53ny61n7kbaa','b2:f18f4c63e5e0fe2acb061c9aac4ae1a7','b2:76b2508a3ea5d37ea43bbac9a7599364','fake',NULL,NULL,NULL,NULL,NULL,NULL,0,'2026-11-28T12:48:30.241764+00:00',NULL);
INSERT INTO "turns" VALUES ('01m8h36chw9vh7ytkvq81kp5kt','01m8h36chtnk3k2a6as4fvmh1a','b2:e5ab53d2bd3fb86353545b25303e6487','b2:972ab6727863e710cd224b0b668ce0ca','fake',NULL,NULL,NULL,NULL,NULL,NULL,0,'2026-11-28T12:48:30.268427+00:00',NULL);
INSERT INTO "turns" VALUES ('01m8h36chw9vh7ytkvq81kp5kv','01m8h36chtnk3k2a6as4fvmh1a','b2:f5d860fe7691213e9c3fce085f6eb6f2','b2:db605a197e5c31b1f263582028082990','fake',NULL,NULL,NULL,NULL,NULL,NULL,0,'2026-11-28T12:48:30.268548+00:00',NULL);
INSERT INTO "turns" VALUES ('01m8h36ck0313zt4a34j0w2nsb','01m8h36ck0313zt4a34j0w2nsc','b2:3e2e94c7a5741038132a07e7f7aa7e29','b2:66975425fd01eae418fc0878281eb387','fake',NULL,NULL,NULL,NULL,NULL,NULL,0,'2026-11-28T12:48:30.304430+00:00',NULL);
INSERT INTO "turns" VALUES ('01m8h36cks7jfz402fgf1wyh05','01m8h36ckt8e8waqjwqs3t8mnr','b2:4be81f8a980b39b57b3778ecb1a3d3da','b2:9c1863583e39261771b465a3ee9134d0','fake',NULL,NULL,NULL,NULL,NULL,NULL,0,'2026-11-28T12:48:30.329871+00:00',NULL);
CREATE TABLE "turn_tools" (
   "turn_id" TEXT REFERENCES "turns"("id"),
   "tool_id" INTEGER REFERENCES "tools"("id"),
   "instance_id" INTEGER REFERENCES "tool_instances"("id"),
   PRIMARY KEY ("turn_id", "tool_id")
);
INSERT INTO "turn_tools" VALUES ('01m8h36chw9vh7ytkvq81kp5kt',1,NULL);
INSERT INTO "turn_tools" VALUES ('01m8h36chw9vh7ytkvq81kp5kv',1,NULL);
CREATE TABLE "part_fragments" (
   "part_id" INTEGER REFERENCES "parts"("id"),
   "fragment_id" INTEGER REFERENCES "fragments"("id"),
   "order" INTEGER,
   PRIMARY KEY ("part_id", "fragment_id", "order")
);
INSERT INTO "part_fragments" VALUES (15,1,0);
CREATE TABLE "part_attachments" (
   "part_id" INTEGER REFERENCES "parts"("id"),
   "attachment_id" TEXT REFERENCES "attachments"("id"),
   "order" INTEGER,
   PRIMARY KEY ("part_id", "attachment_id", "order")
);
INSERT INTO "part_attachments" VALUES (13,'2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',0);
CREATE TABLE "responses" (
   "id" TEXT PRIMARY KEY,
   "model" TEXT,
   "prompt" TEXT,
   "system" TEXT,
   "prompt_json" TEXT,
   "options_json" TEXT,
   "response" TEXT,
   "response_json" TEXT,
   "conversation_id" TEXT REFERENCES "conversations"("id"),
   "duration_ms" INTEGER,
   "datetime_utc" TEXT,
   "input_tokens" INTEGER,
   "output_tokens" INTEGER,
   "token_details" TEXT,
   "schema_id" TEXT REFERENCES "schemas"("id")
, "resolved_model" TEXT, "reasoning" TEXT);
CREATE TABLE "tools" (
   "id" INTEGER PRIMARY KEY,
   "hash" TEXT,
   "name" TEXT,
   "description" TEXT,
   "input_schema" TEXT
, "plugin" TEXT);
INSERT INTO "tools" VALUES (1,'28e885195f9c83e15e3e3f197a0bd0beb3f72a8df755ef5b08b52f5be5c28c35','stock','How many of an article are left.','{"properties": {"sku": {"type": "string"}}, "required": ["sku"], "type": "object"}',NULL);
CREATE TABLE "fragments" (
   "id" INTEGER PRIMARY KEY,
   "hash" TEXT,
   "content" TEXT,
   "datetime_utc" TEXT,
   "source" TEXT
);
INSERT INTO "fragments" VALUES (1,'67a77ec4f8605f02d930b7861b459d1097a4a24ecb4a4670ba437e7cf2af7466','A long novel.','2026-11-28 12:48:30',NULL);
CREATE TABLE "attachments" (
   "id" TEXT PRIMARY KEY,
   "type" TEXT,
   "path" TEXT,
   "url" TEXT,
   "content" BLOB
);
INSERT INTO "attachments" VALUES ('2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881','image/png',NULL,NULL,X'78');
