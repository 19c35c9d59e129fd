ALTER TABLE "clients" ADD COLUMN "api_key_hash" text;--> statement-breakpoint
ALTER TABLE "clients" ADD COLUMN "api_key_tag" integer;--> statement-breakpoint
CREATE INDEX "clients_api_key_tag_index" ON "clients" USING btree ("api_key_tag");--> statement-breakpoint
ALTER TABLE "clients" ADD CONSTRAINT "clients_api_key_hash_unique" UNIQUE("api_key_hash");