CREATE TABLE "conversations" (
   "id" TEXT PRIMARY KEY,
   "name" TEXT,
   "model" TEXT
);
INSERT INTO "conversations" VALUES ('01m8h380jaxfgt8tyxpk6dm86n','Ann','fake');
INSERT INTO "conversations" VALUES ('01m8h380m6ra8cgja4adq1kqe9','How is the stock of A-1?','fake');
INSERT INTO "conversations" VALUES ('01m8h380rt367dj6xcp6bap93j','Look','fake');
INSERT INTO "conversations" VALUES ('01m8h380v27bh5zk7g16q92scj','A long novel. Sum it up','fake');
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
, "resolved_model" TEXT);
INSERT INTO "responses" VALUES ('01m8h380jaxfgt8tyxpk6dm86p','fake','Ann','Be short.',NULL,'{}','Hello, Ann',NULL,'01m8h380jaxfgt8tyxpk6dm86n',0,'2026-11-28T12:49:23.530842+00:00',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "responses" VALUES ('01m8h380kjsarz0jnrsdptees8','fake','Bob',NULL,NULL,'{}','Hello, Bob',NULL,'01m8h380jaxfgt8tyxpk6dm86n',0,'2026-11-28T12:49:23.570857+00:00',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "responses" VALUES ('01m8h380m88cn5rzct12me9fk1','fake','How is the stock of A-1?','You keep a shop.',NULL,'{}','I look.',NULL,'01m8h380m6ra8cgja4adq1kqe9',0,'2026-11-28T12:49:23.592358+00:00',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "responses" VALUES ('01m8h380m88cn5rzct12me9fk2','fake','',NULL,NULL,'{}','There are 4.',NULL,'01m8h380m6ra8cgja4adq1kqe9',0,'2026-11-28T12:49:23.592412+00:00',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "responses" VALUES ('01m8h380rt367dj6xcp6bap93h','fake','Look',NULL,NULL,'{}','Hello, Look',NULL,'01m8h380rt367dj6xcp6bap93j',0,'2026-11-28T12:49:23.738780+00:00',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "responses" VALUES ('01m8h380v27bh5zk7g16q92sch','fake','Sum it up',NULL,NULL,'{}','Hello, A long novel.
Sum it up',NULL,'01m8h380v27bh5zk7g16q92scj',0,'2026-11-28T12:49:23.810725+00:00',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE "tool_calls" (
   "id" INTEGER PRIMARY KEY,
   "response_id" TEXT REFERENCES "responses"("id"),
   "tool_id" INTEGER REFERENCES "tools"("id"),
   "name" TEXT,
   "arguments" TEXT,
   "tool_call_id" TEXT
);
INSERT INTO "tool_calls" VALUES (1,'01m8h380m88cn5rzct12me9fk1',1,'stock','{"sku": "A-1"}','c1');
CREATE TABLE "tool_results" (
   "id" INTEGER PRIMARY KEY,
   "response_id" TEXT REFERENCES "responses"("id"),
   "tool_id" INTEGER REFERENCES "tools"("id"),
   "name" TEXT,
   "output" TEXT,
   "tool_call_id" TEXT,
   "instance_id" INTEGER REFERENCES "tool_instances"("id")
, "exception" TEXT);
INSERT INTO "tool_results" VALUES (1,'01m8h380m88cn5rzct12me9fk2',1,'stock','4','c1',NULL,NULL);
CREATE TABLE "tool_responses" (
   "tool_id" INTEGER REFERENCES "tools"("id"),
   "response_id" TEXT REFERENCES "responses"("id"),
   PRIMARY KEY ("tool_id", "response_id")
);
INSERT INTO "tool_responses" VALUES (1,'01m8h380m88cn5rzct12me9fk1');
INSERT INTO "tool_responses" VALUES (1,'01m8h380m88cn5rzct12me9fk2');
CREATE TABLE "prompt_fragments" (
   "response_id" TEXT REFERENCES "responses"("id"),
   "fragment_id" INTEGER REFERENCES "fragments"("id"),
   "order" INTEGER,
   PRIMARY KEY ("response_id", "fragment_id", "order")
);
INSERT INTO "prompt_fragments" VALUES ('01m8h380v27bh5zk7g16q92sch',1,0);
CREATE TABLE "system_fragments" (
   "response_id" TEXT REFERENCES "responses"("id"),
   "fragment_id" INTEGER REFERENCES "fragments"("id"),
   "order" INTEGER,
   PRIMARY KEY ("response_id", "fragment_id", "order")
);
CREATE TABLE "prompt_attachments" (
   "response_id" TEXT REFERENCES "responses"("id"),
   "attachment_id" TEXT REFERENCES "attachments"("id"),
   "order" INTEGER,
   PRIMARY KEY ("response_id", "attachment_id")
);
INSERT INTO "prompt_attachments" VALUES ('01m8h380rt367dj6xcp6bap93h','2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',0);
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
INSERT INTO "fragments" VALUES (1,'67a77ec4f8605f02d930b7861b459d1097a4a24ecb4a4670ba437e7cf2af7466','A long novel.','2026-11-28 12:49:23',NULL);
CREATE TABLE "attachments" (
   "id" TEXT PRIMARY KEY,
   "type" TEXT,
   "path" TEXT,
   "url" TEXT,
   "content" BLOB
);
INSERT INTO "attachments" VALUES ('2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881','image/png',NULL,NULL,X'78');
