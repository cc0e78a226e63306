// Continuity checks by the running number that every record of the demo carries
// on its subject whether one is missing or came twice.
export class Continuity {
  constructor() {
    this.newest = new Map(); // by subject
    this.lost = 0;
    this.doubled = 0;
  }

  see(subject, number) {
    const newest = this.newest.get(subject);
    if (newest !== undefined && number <= newest) {
      this.doubled++;
      return;
    }
    if (newest !== undefined) this.lost += number - newest - 1;
    this.newest.set(subject, number);
  }

  // forget begins anew: after a gap or a reset, which the bridge has told and so
  // is no silent loss, and when other subjects are followed.
  forget() {
    this.newest.clear();
  }
}
